"""Casts weights and graphs to another floating type, with a report of what that did to the values.

- casting: `cast_model` and `cast_checkpoint`
- options: the options and the result of a cast
- rules: which weights take which type, by rules and presets
- policy: which ops compute in a narrow type
- measured, measuring: the measurement of what a cast does to the outputs, and its child process
- simulation: the model that it runs
- smallest_set: the search of what must stay
- unfit: weights that the precision does not hold, and stay
- weights: weights from bundle to bundle, on threads
- on_beam: the same on a Beam runner
- component, command: the TFX component, and the command
"""
