"""What makes a measurement less sure than it looks is said."""

from __future__ import annotations

import attrs
import numpy as np

from tpu2gpu.latency_evaluator.evaluation import Evaluation
from tpu2gpu.latency_evaluator.measure.load import Load
from tpu2gpu.latency_evaluator.report.caveats import find_warnings
from tpu2gpu.latency_evaluator.results import Ending, ModelFigures, ScenarioFigures

GPU = {"uuid": "GPU-1", "clocks.sm": "1900 MHz", "clocks.max.sm": "1980 MHz", "utilization.gpu": "0 %"}
CALM = {"load_average": [0.1], "governor": "performance", "cpu_quota_cores": 2.0, "throttled_s": 1.0, "gpus": [GPU]}


def evaluation(**changes) -> Evaluation:
    given = {field.name: None for field in attrs.fields(Evaluation)}
    given |= {"reference": ModelFigures(label="reference", name="b"), "candidates": (), "labelled": True, "examples": 9}
    given |= {
        "hardware": {"cores": 4},
        "before": CALM,
        "after": CALM,
        "others_busy_cores": 0.0,
        "non_finite_reference": 0,
    }
    given |= {"load": Load(9, 9, 3, 1, 1, 50.0, 0), "orders": np.zeros((3, 1)), "latency_ns": {}, "remarks": ()}
    return Evaluation(**{**given, **changes})


def scenario(**changes) -> ModelFigures:
    figures = ScenarioFigures(**{"scenario": "server", "batch_size": 1, **changes})
    return ModelFigures(label="reference", name="b", scenarios={"server": figures})


def test_a_calm_machine_gives_no_warning():
    assert find_warnings(evaluation()) == ()


def test_everything_that_makes_a_machine_noisy_is_named():
    before = {**CALM, "governor": "powersave", "load_average": [7.0], "gpus": [{**GPU, "utilization.gpu": "35 %"}]}
    after = {**CALM, "throttled_s": 3.5, "gpus": [{**GPU, "clocks.sm": "1200 MHz"}]}
    found = "\n".join(find_warnings(evaluation(before=before, after=after, others_busy_cores=1.5)))
    for said in (
        "governor is powersave",
        "a quota of 2 cores stopped processes for 2.5 s",
        "the GPU GPU-1 was 35 % busy",
        "the GPU GPU-1 went from 1900 MHz to 1200 MHz",
        "other processes kept 1.5 of 4 cores busy",
        "the load average was 7.0 on 4 cores",
    ):
        assert said in found


def test_what_nvidia_smi_does_not_tell_is_no_noise():
    silent = {**CALM, "gpus": [dict.fromkeys(GPU, "[N/A]")]}
    assert find_warnings(evaluation(before=silent, after=silent)) == ()


def test_a_model_that_cannot_keep_up_is_overloaded():
    slow = scenario(target_qps=100.0, achieved_qps=80.0)
    (found,) = find_warnings(evaluation(reference=slow))
    assert found.startswith("Overloaded: the reference answered 80 of 100 requests per second")
    assert find_warnings(evaluation(reference=scenario(target_qps=100.0, achieved_qps=97.0))) == ()


def test_a_measurement_that_did_not_converge_says_why():
    why = "9 windows: the last 3 windows still differ by 30 % in p50 of the reference"
    unstable = scenario(ending=Ending(False, why))
    (found,) = find_warnings(evaluation(reference=unstable))
    assert found.startswith("Not converged, server: 9 windows: the last 3 windows still differ")
    assert find_warnings(evaluation(reference=scenario(ending=Ending(True, "they agreed")))) == ()
