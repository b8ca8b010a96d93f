"""A disk that fills up, without a disk."""

import errno
import os


class FullDisk:
    """os.pwrite on a disk with so many bytes left; writes what fits of the last piece, as a disk does."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.write = os.pwrite

    def __call__(self, descriptor: int, data: memoryview, offset: int) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.write(descriptor, data[: self.room], offset)
        self.room -= written
        return written
