"""What a fork of the process for warm starts does with what it was sent."""

from __future__ import annotations

import os

import pytest

from taktora_trio.processes.child.zygote import _renumber


@pytest.mark.parametrize("numbers", [[101, 102, 103, 100], [103, 102, 101, 100], [100, 101, 102, 103], [7, 250, 8, 9]])
def test_descriptors_get_their_numbers_whichever_these_are(numbers: list[int]) -> None:
    """A supervisor with many channels has high ones."""
    there = [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2]
    numbers = [number + max(there) + 1 if number < 100 else number for number in numbers]
    assert not set(numbers) & set(there), "the test needs these numbers"
    fds = [os.memfd_create("x") for _ in numbers]
    for place, fd in enumerate(fds):
        os.write(fd, b"%d" % place)
    _renumber(fds, numbers)
    try:
        assert [os.pread(number, 9, 0) for number in numbers] == [b"0", b"1", b"2", b"3"]
        for fd in set(fds) - set(numbers):
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
    finally:
        for number in numbers:
            os.close(number)
