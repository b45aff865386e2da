"""What binds the steps to TFX: artifact types, the frame of a component and its executor, Beam."""
