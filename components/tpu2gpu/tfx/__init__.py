"""What binds the steps to TFX.

- component_base: `StepComponent`, of which a component is one class
- artifacts: artifact types, and their files
- step: what TFX hands to a step
- source_digest: a digest of the sources that a step loads
- source_names: the names in a source that may be modules
- beam: run a pipeline on a Beam runner, and carry results and errors
"""
