"""What other code is given of a run: learnt scales of logits (LWS) are part of its classifier."""

from __future__ import annotations

import torch

from longtail.exchange.exported import unscaled
from longtail.models.combined import ScaledLinear


def test_learnt_scales_are_multiplied_into_the_classifier():
    fc = ScaledLinear(4, 3).double()
    with torch.no_grad():
        fc.scales.copy_(torch.tensor([0.5, 1.0, 2.0]))
    state = {f"fc.{name}": value for name, value in fc.state_dict().items()} | {"conv1.weight": torch.ones(1)}
    found = unscaled(state)
    assert found.keys() == {"fc.weight", "fc.bias", "conv1.weight"}
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(x @ found["fc.weight"].T + found["fc.bias"], fc(x), rtol=1e-12, atol=1e-14)
    plain = {"fc.weight": state["fc.weight"]}
    assert unscaled(plain) is plain
