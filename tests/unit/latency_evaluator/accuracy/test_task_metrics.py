"""The output of a classifier among several, and how right it is by the labels."""

from __future__ import annotations

import numpy as np
import pytest

from tpu2gpu.errors import ExamplesError, UsageError
from tpu2gpu.latency_evaluator.accuracy.agreement import ReferenceOutputs
from tpu2gpu.latency_evaluator.accuracy.task_metrics import find_scores
from tpu2gpu.latency_evaluator.options import OutputOptions

COUNT = 50
LABELS = np.arange(COUNT) * 20
EMBEDDING = np.random.default_rng(1).normal(size=(COUNT, 64)).astype(np.float32)
PROBABILITIES = np.eye(1000, dtype=np.float32)[LABELS]
OUTPUTS = {"embedding": EMBEDDING, "probabilities": PROBABILITIES}


def test_labels_tell_the_classifier_among_several_outputs():
    assert find_scores(OUTPUTS, LABELS) == ("probabilities", ["probabilities"])
    few = LABELS[:3]  # an embedding has room for them too
    assert find_scores({name: array[:3] for name, array in OUTPUTS.items()}, few)[0] == "probabilities"
    assert find_scores(OUTPUTS, None) == (None, ["embedding", "probabilities"])


def test_an_option_names_the_outputs_with_class_scores():
    assert find_scores(OUTPUTS, LABELS, ["probabilities", "embedding"])[1] == ["probabilities", "embedding"]
    assert find_scores(OUTPUTS, None, ["embedding"]) == (None, ["embedding"])
    with pytest.raises(UsageError, match="did you mean 'probabilities'"):
        find_scores(OUTPUTS, LABELS, ["probability"])
    with pytest.raises(ExamplesError, match="output embedding has 64 classes"):
        find_scores(OUTPUTS, LABELS, ["embedding"])


def test_an_embedding_beside_a_classifier_has_no_best_class_that_must_agree():
    other = {"embedding": -EMBEDDING, "probabilities": PROBABILITIES}
    reference = ReferenceOutputs(OUTPUTS, LABELS, OutputOptions())
    agreement = reference.compare(other)
    assert (reference.own().right.accuracy, agreement.right.accuracy) == (1.0, 1.0)
    assert agreement.right.top5_accuracy == 1
    found = {name: one.top1_agreement for name, one in agreement.parity.items()}
    assert found == {"embedding": None, "probabilities": 1.0}
