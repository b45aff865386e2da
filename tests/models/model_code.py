"""Model code as users have it, for weights that come back from frozen graphs: `tests.models.model_code:FUNCTION`."""

from __future__ import annotations

from typing import Any


def keras_convnet(scope: str = "") -> Any:
    """The architecture of `networks.convnet`; with a scope its layers have other names."""
    import keras

    layer = keras.layers
    image = keras.Input((8, 8, 1), name="image")
    x = layer.Conv2D(8, 3, padding="same", use_bias=False, name=f"{scope}conv2d")(image)
    x = layer.ReLU()(layer.BatchNormalization(name=f"{scope}batch_normalization")(x))
    x = layer.Conv2D(16, 3, strides=2, padding="same", name=f"{scope}conv2d_1")(x)
    x = layer.ReLU()(layer.BatchNormalization(name=f"{scope}batch_normalization_1")(x))
    x = layer.MaxPooling2D()(x)
    return keras.Model(image, layer.Dense(10, name=f"{scope}dense")(layer.GlobalAveragePooling2D()(x)))


def renamed_convnet() -> Any:
    """The same under other names."""
    return keras_convnet("my_")


def keras_convnet_with_own_layer() -> Any:
    """The same with a layer at its end whose constructor Keras cannot call again."""
    import keras

    class Scale(keras.layers.Layer):
        def __init__(self, by: object) -> None:
            super().__init__()
            self.by = by

        def call(self, x: Any) -> Any:
            return x * 1.0

    model = keras_convnet()
    return keras.Model(model.inputs, Scale(object())(model.outputs[0]))


def longer_convnet() -> Any:
    """One with a layer more."""
    import keras

    model = keras_convnet("my_")
    return keras.Model(model.inputs, keras.layers.Dense(3, name="more")(model.outputs[0]))


def tf1_graph() -> None:
    """The variables of `networks.tf1_network`, in the default graph, under other names."""
    import tensorflow as tf

    v1 = tf.compat.v1
    with v1.variable_scope("tower"):
        v1.get_variable("first", shape=(4, 3))
        v1.get_variable("second", shape=(3, 2))


def module() -> Any:
    """A tf.Module with the variables of `networks.tf1_network`."""
    import tensorflow as tf

    made = tf.Module()
    made.first = tf.Variable(tf.zeros((4, 3)), name="net/w1")
    made.second = tf.Variable(tf.zeros((3, 2)), name="net/w2")
    return made


def nothing() -> Any:
    """Makes no variable."""
    return object()
