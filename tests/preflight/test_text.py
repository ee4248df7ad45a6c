"""The page and the table say all that is known, in words that need no other page."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

from luab_jax.byproducts.kinds import TargetSettings
from luab_jax.config import Config
from luab_jax.errors import ConfigError
from luab_jax.preflight.chips import CHIPS
from luab_jax.preflight.estimate import NOT_RUN, TRUST, Work, estimate
from luab_jax.preflight.experiment import Data, Preflight
from luab_jax.preflight.facts import Facts, Memory
from luab_jax.preflight.hlo import Collective, ProgramText
from luab_jax.preflight.text import COLUMNS, page, table, to_json
from luab_jax.preflight.topology import Topology

V5E = CHIPS["v5e"]
MEMORY = Memory(arguments=200_000_000, outputs=1, aliased=1, temporaries=900_000_000, program=100_000_000, peak=10**9)
REDUCE = Collective(kind="all-reduce", num_bytes=12_000_000, group_size=16, count=1)
TEXT = ProgramText(cycles=15_000_000, collectives=(REDUCE,), num_loops=1, num_unknown_loops=1)
FACTS = Facts(memory=MEMORY, flops=5e11, text=TEXT, compile_s=125.0)
REFUSED = Facts(memory=None, flops=None, text=None, refused="Used 20.50G of 15.75G hbm.", compile_s=125.0)


def flight(facts: Facts, price: float | None = None) -> Preflight:
    work = Work(batch_size=1024, forward_macs=1_260_000_000, total_steps=360_000, num_devices=16, num_chips=16)
    work = dataclasses.replace(work, num_hosts=4, num_evaluations=300, eval_examples=50_000, num_saves=300)
    return Preflight(
        name="vit_ti",
        config=Config(),
        topology=Topology(
            "v5e:4x4", [SimpleNamespace(device_kind="TPU v5 lite", process_index=0)] * 16, V5E, V5E.memory_bytes
        ),
        data=Data(
            num_classes=1000,
            num_examples=1,
            eval_examples=50_000,
            settings=TargetSettings(),
            assumptions=("1,000 classes",),
        ),
        work=work,
        state_bytes={"parameters": 23_000_000, "optimiser state": 46_000_000},
        saved_bytes=69_000_000,
        batch_bytes=9_600_000,
        facts=facts,
        cached=True,
        estimate=estimate(facts, work, V5E, memory_bytes=V5E.memory_bytes, price_per_chip_hour=price),
        hints=("a smaller batch: --config.batch_size=512",) if facts is REFUSED else (),
    )


def test_a_page_has_the_verdict_first_and_how_far_to_trust_it_last() -> None:
    text = page(flight(FACTS, price=2.0))
    assert text.startswith("vit_ti on v5e:4x4: fits, 1.20 GB of 17.18 GB per device\n")
    assert text.endswith(TRUST + "\n")
    for line in (
        "parameters                   23.0 MB",
        "activations and temporaries  900.0 MB",
        "all-reduce                   1 x, 12.0 MB; 22.5 MB sent per device (ring bound)",
        "step                         10.11 ms: cycles 10.00 ms at 1.5 GHz + links 0.11 ms",
        "images/s                     101,241",
        "input per host               25,310 images/s on each of 4 hosts",
        "run                          1.0 h for 360,000 steps and the evaluations",
        "evaluations                  300 of 50,000 images: 0.01 h",
        "saves                        300 of about 69.0 MB, one in 0.2 minutes, while steps go on",
        "cost                         33 for 16 chips",
        "compiled                     in 2m05s, earlier, found in the cache",
    ):
        assert line in text
    assert "1 loop(s) of unknown length counted once" in text
    assert f"figures of v5e: {V5E.source}" in text


def test_a_page_of_what_does_not_fit_has_remedies_and_no_time() -> None:
    text = page(flight(REFUSED))
    assert "DOES NOT FIT, 22.01 GB of 17.18 GB" in text
    assert "Used 20.50G of 15.75G hbm." in text
    assert "try a smaller batch: --config.batch_size=512" in text
    assert "not estimated: the program was refused" in text
    assert NOT_RUN in text
    assert TRUST not in text


def test_a_table_has_a_row_for_each_that_compiled_and_a_line_for_each_that_failed() -> None:
    flights = [flight(FACTS), dataclasses.replace(flight(REFUSED), name="vit_b")]
    text = table(flights, {"vit_s": ConfigError("the batch does not divide")}, with_cost=False)
    lines = text.splitlines()
    assert all(column in lines[0] for column in COLUMNS)
    assert (
        " ".join(lines[2].split())
        == "vit_ti 16 1024 10.0 0.11 0.246 0.50 1.00 0.20 1, 12.0 MB 101,241 25,310 300 300 1.0"
    )
    assert "no fit" in lines[3]
    assert "vit_b on v5e:4x4: DOES NOT FIT" in text
    assert "vit_s: the batch does not divide" in text
    assert text.count("assumed: 1,000 classes") == 1


def test_json_has_bytes_and_seconds() -> None:
    values = to_json(flight(FACTS))
    assert values["allocated_bytes"] == 1_200_000_000
    assert values["estimate"]["step_s"] == values["estimate"]["cycles_s"] + values["estimate"]["ici_s"]
    assert values["facts"]["text"]["collectives"][0]["kind"] == "all-reduce"
    assert values["mesh"] == {"data": 16, "fsdp": 1}


def test_memory_alone_says_nothing_of_time() -> None:
    alone = dataclasses.replace(flight(FACTS), with_time=False)
    text = page(alone) + table([alone, alone], {}, with_cost=False)
    assert "fits, 1.20 GB of 17.18 GB" in text
    assert not any(word in text for word in ("images/s  1", "MFU   ", "10.11", "101,241", TRUST))
