"""The interface of the ModelPusher's step."""

from __future__ import annotations

from tpu2gpu.interface import INFRA_BLESSING, MODEL, MODEL_BLESSING, PUSHED_MODEL, StepInterface, TextParameter
from tpu2gpu.model_pusher.options import PushOptions

MODEL_PUSHER = StepInterface(
    component="tpu2gpu.model_pusher.component.ModelPusher",
    summary="Promote a model that both blessings bless, and that is the very one that they were given to.",
    options=PushOptions,
    inputs={"model": MODEL, "model_blessing": MODEL_BLESSING, "infra_blessing": INFRA_BLESSING},
    outputs={"pushed_model": PUSHED_MODEL},
    parameters={"promotion_uri": TextParameter("the promotion folder, which servers poll")},
)
