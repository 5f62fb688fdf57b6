"""Memory that is used again, and never while somebody holds it."""

import os

import numpy as np
import torch

from longtail.base.reused import Reused


def test_memory_is_used_again_when_nobody_holds_it():
    memory = Reused(np.float32)
    first = memory.empty(4, 3)
    address = first.ctypes.data
    assert first.shape == (4, 3) and first.dtype == np.float32
    del first
    assert memory.empty(2, 5).ctypes.data == address  # a smaller one fits


def test_memory_is_left_alone_while_a_tensor_or_a_view_of_it_is_held():
    memory = Reused(np.uint8)
    held = torch.from_numpy(memory.empty(8)).fill_(7)
    part = memory.empty(8)[2:4]
    part[:] = 5
    third = memory.empty(8)
    third[:] = 1
    assert held.tolist() == [7] * 8 and part.tolist() == [5, 5]
    row = held[3:4]
    del held
    memory.empty(8)[:] = 2
    assert row.tolist() == [7]


def test_a_forked_process_makes_arrays_of_its_own():
    memory = Reused(np.uint8)
    memory.empty(10)[:] = 3
    child = os.fork()
    if not child:
        memory.empty(10)[:] = 4  # its parent's are not mapped here
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert memory.empty(10).tolist() == [3] * 10
