"""Which device a card's name means here: GPUs are made up."""

import pytest
import torch

from lattice_flows.errors import InputError
from lattice_flows.production.devices import resolve_device


def _gpus(monkeypatch: pytest.MonkeyPatch, n: int, local_rank: str | None = None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)


@pytest.mark.parametrize(
    ("name", "n_gpus", "local_rank", "expected"),
    [
        ("auto", 0, None, "cpu"),
        ("auto", 0, "3", "cpu"),
        ("auto", 2, None, "cuda"),
        ("auto", 4, "3", "cuda:3"),
        ("cuda", 4, "0", "cuda:0"),
        ("cuda", 4, "2", "cuda:2"),
        ("cuda", 1, "2", "cuda:0"),  # each process sees its own one only
        ("cuda:1", 4, "3", "cuda:1"),
        ("cuda:1", 4, None, "cuda:1"),
        ("cpu", 4, "3", "cpu"),
    ],
)
def test_the_device_of_a_process(
    name: str, n_gpus: int, local_rank: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _gpus(monkeypatch, n_gpus, local_rank)
    assert resolve_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("name", "n_gpus", "local_rank", "text"),
    [
        ("cuda", 0, None, "device = 'cuda': not on this machine"),
        ("cuda", 0, "1", "device = 'cuda': not on this machine"),
        ("cuda:2", 2, None, "device = 'cuda:2': not on this machine"),
        ("cuda:0", 0, None, "device = 'cuda:0': not on this machine"),
        ("cuda", 2, "two", "LOCAL_RANK = 'two'"),
        ("auto", 2, "-1", "LOCAL_RANK = '-1'"),
    ],
)
def test_what_is_not_here_is_refused_in_one_line(
    name: str, n_gpus: int, local_rank: str | None, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _gpus(monkeypatch, n_gpus, local_rank)
    with pytest.raises(InputError) as caught:
        resolve_device(name)
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_tf32_is_off_from_then_on() -> None:
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    resolve_device("cpu")
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.conv.fp32_precision != "tf32"
