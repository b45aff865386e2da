"""A tabular TFX pipeline of stock components, and `gpu_serving` behind it: from a CSV file to a promoted GPU model.

    tpu2gpu run --pipeline taxi_pipeline:create_pipeline --settings taxi.yaml      # in this folder

The question is that of TFX's Chicago Taxi example: will this passenger tip more than a fifth of the fare?
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

from tfx import v1 as tfx

from tpu2gpu_pipelines import Settings, gpu_serving

PAYMENTS = ("Cash", "Credit Card", "Mobile")
_HERE = Path(__file__).parent


def create_pipeline(settings: Settings) -> tfx.dsl.Pipeline:
    """Make the pipeline: ExampleGen, schema, Transform and Trainer as TFX has them, then the tail."""
    data = Path(settings.root) / "trips"
    write_trips(data / "trips.csv")
    example_gen = tfx.components.CsvExampleGen(input_base=str(data))
    schema_gen = tfx.components.ImportSchemaGen(schema_file=str(_HERE / "schema.pbtxt"))
    transform = tfx.components.Transform(
        examples=example_gen.outputs["examples"],
        schema=schema_gen.outputs["schema"],
        preprocessing_fn="taxi_training.preprocessing_fn",
    )
    trainer = tfx.components.Trainer(
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        run_fn="taxi_training.run_fn",
        train_args=tfx.proto.TrainArgs(splits=["train"], num_steps=60),
        eval_args=tfx.proto.EvalArgs(splits=["eval"]),
    )
    tail = gpu_serving(model=trainer.outputs["model"], examples=example_gen.outputs["examples"], settings=settings)
    return tfx.dsl.Pipeline(
        settings.name,
        settings.pipeline_root,
        components=[example_gen, schema_gen, transform, trainer, *tail],
        enable_cache=settings.cache,
    )


def write_trips(path: Path, count: int = 600) -> None:
    """Write trips that were made up, where none stand: the fare follows the miles, and who pays by card tips."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = random.Random(7)  # noqa: S311 - nothing here is secret
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["trip_miles", "fare", "trip_start_hour", "payment_type", "big_tipper"])
        for _ in range(count):
            miles = round(draw.lognormvariate(1, 0.8), 2)
            fare, hour = round(3.25 + 2.25 * miles + draw.random(), 2), draw.randrange(24)
            payment = draw.choice(PAYMENTS)
            tips = payment != "Cash" and (fare < 12) != (hour < 5)
            rows.writerow([miles, fare, hour, payment, int(tips)])
