"""Arrays of compiled code that are not counted as references."""

from typing import Any

from numba import types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic


@intrinsic
def borrowed(typingctx: Any, array: Any) -> Any:
    """The array without its share in the count of references, for as long as another variable holds it.

    A function's arguments are held by its caller. Where functions that take arrays are not inlined, numba counts at
    each call, which costs as much as a short loop; of a borrowed array and its views it has nothing to count. What is
    no array is returned as it is.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not isinstance(array, types.Array):
            return impl_ret_borrowed(context, builder, array, arguments[0])
        view = context.make_array(array)(context, builder, arguments[0])
        view.meminfo = view.meminfo.type(None)  # null
        return view._getvalue()

    return array(array), codegen
