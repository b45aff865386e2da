"""What binds the steps to TFX.

- component_base: `StepComponent`, of which a component is one class
- artifacts: artifact types, and their files
- step: what TFX hands to a step
- beam: run a pipeline on a Beam runner, and carry results and errors
"""
