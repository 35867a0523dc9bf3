"""Start, exact mode and failures of a CUDA GPU."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest
import torch
from torch import nn

from rnnlm_tui.engine.device import (
    is_lost,
    is_out_of_memory,
    use_device,
    uuid_of,
)
from rnnlm_tui.engine.optim import (
    build_optimizer,
    skips_bad_updates,
    update_when_finite,
)
from rnnlm_tui.system.gpu import gpu_uuids
from rnnlm_tui.system.processes import child_environment
from tests.gpu import DEVICE, NEEDS_GPU, ON_DEVICE
from tests.unit.engine.builders import optimizer_config

pytestmark = [*ON_DEVICE, NEEDS_GPU]


def test_the_chosen_gpu_is_torchs_current_one() -> None:
    last = torch.device("cuda", torch.cuda.device_count() - 1)
    try:
        assert use_device(str(last)) == last
        assert torch.cuda.current_device() == last.index
        assert uuid_of(last)
        assert gpu_uuids()[last.index or 0].endswith(uuid_of(last))
    finally:
        use_device("cuda:0")


@pytest.mark.parametrize("algorithm", ["adamw", "sgd"])
def test_a_bad_update_changes_no_weight(algorithm: str) -> None:
    weight = nn.Parameter(torch.ones(1000, device=DEVICE))
    optimizer = build_optimizer([weight], optimizer_config(algorithm), 0.1)
    assert skips_bad_updates(optimizer)
    for norm, changes in ((float("nan"), False), (1.0, True)):
        weight.grad = torch.full_like(weight, norm)
        update_when_finite(
            optimizer, torch.tensor(norm, device=DEVICE), torch.ones((), device=DEVICE)
        )
        assert bool((weight != 1).any()) is changes


def test_out_of_memory_is_recognized_and_the_cache_returned() -> None:
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    with pytest.raises(RuntimeError) as caught:
        torch.empty(total * 2, dtype=torch.uint8, device=DEVICE)
    assert is_out_of_memory(caught.value)
    assert not is_lost(caught.value)
    del caught
    gc.collect()  # what earlier tests left would be freed at any moment
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(DEVICE)
    held = torch.empty(2**28, dtype=torch.uint8, device=DEVICE)
    del held
    assert torch.cuda.memory_reserved(DEVICE) >= before + 2**28
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved(DEVICE) == before


def test_an_assert_on_the_device_is_a_lost_gpu_in_a_process_of_its_own() -> None:
    program = (
        "import torch, sys\n"
        "from rnnlm_tui.engine.device import is_lost\n"
        "try:\n"
        "    torch.zeros(4, device='cuda')[torch.tensor([9], device='cuda')].tolist()\n"
        "except RuntimeError as error:\n"
        "    sys.exit(0 if is_lost(error) else 3)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=child_environment({}), check=False)
    assert done.returncode == 0
