"""Surgery on TensorFlow graphs as protocol buffers: nothing is executed and no op needs to be registered."""
