"""What does not fit comes with changes that should."""

from __future__ import annotations

import pytest

from luab_jax.config import Config
from luab_jax.models.config import ModelConfig, Remat
from luab_jax.preflight.chips import CHIPS
from luab_jax.preflight.facts import Facts, Memory
from luab_jax.preflight.hints import hints, needed_bytes
from luab_jax.preflight.topology import Topology

GIB = 2**30
FOUR = Topology("v5e:2x2", [object()] * 4, CHIPS["v5e"], 16 * GIB)

REFUSALS = {
    352.20: "Ran out of memory on HBM, the total memory required for HLO temporaries (352.20G) exceeds available HBM"
    " (15.75G).",
    20.50: "Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. Exceeded hbm capacity by 4.75G.",
}
"""GiB needed, and the words: libtpu 0.0.42's and XLA's."""


def refused(message: str) -> Facts:
    return Facts(memory=None, flops=None, text=None, refused=message, compile_s=1.0)


@pytest.mark.parametrize("needed", REFUSALS)
def test_the_compiler_says_in_words_how_much_it_would_need(needed: float) -> None:
    assert needed_bytes(refused(REFUSALS[needed])) == pytest.approx(needed * GIB, abs=1)
    assert needed_bytes(refused("no numbers here")) is None


def test_parts_a_smaller_batch_more_chips_and_rematerialisation_are_proposed() -> None:
    """30.4 GiB of activations for 64 images per device, 15.2 to be had: half of it is right."""
    config = Config(batch_size=256, model=ModelConfig(name="vit_b"))
    memory = Memory(arguments=0, outputs=0, aliased=0, temporaries=int(30.3 * GIB), program=0, peak=0)
    found = hints(config, FOUR, Facts(memory=memory, flops=None, text=None, compile_s=1.0), {})
    assert [hint.partition("--")[2].split(",")[0] for hint in found] == [
        "config.accumulation_steps=2",
        "config.batch_size=128 (32 images per device)",
        "topology=v5e:2x4",
        "config.model.remat=blocks",
    ]


SPLIT, FSDP = "split optimiser state and moving average: --config.mesh.split_optimizer=true", "--config.mesh.fsdp=4"


@pytest.mark.parametrize(
    ("state", "is_split", "expected"),
    [
        (
            {"parameters": 5, "optimiser state": 9, "moving average": 3},
            False,
            [SPLIT, f"split parameters as well: {FSDP}"],
        ),
        ({"parameters": 5, "optimiser state": 9, "moving average": 3}, True, [f"split parameters as well: {FSDP}"]),
        ({"parameters": 16, "optimiser state": 1}, False, [f"split the state: {FSDP}"]),
    ],
    ids=["an optimiser with a state", "which is split already", "one with next to none"],
)
def test_a_state_that_is_too_large_is_split(state: dict[str, int], is_split: bool, expected: list[str]) -> None:
    config = Config(batch_size=4, model=ModelConfig(name="vit_b", remat=Remat.BLOCKS))
    config.mesh.split_optimizer = is_split
    in_bytes = {name: size * GIB for name, size in state.items()}
    assert list(hints(config, FOUR, refused("Used 20.50G of 15.75G hbm"), in_bytes)) == expected


def test_a_state_in_as_many_parts_as_devices_cannot_be_split_further() -> None:
    config = Config(batch_size=4, model=ModelConfig(name="vit_b", remat=Remat.BLOCKS))
    config.mesh.fsdp = 4
    assert not hints(config, FOUR, refused("Used 20.50G of 15.75G hbm"), {"parameters": 17 * GIB})
