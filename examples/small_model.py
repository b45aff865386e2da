"""Train a small Keras model on handwritten digits, and write `digits.keras` and `eval.npz` into the current folder."""

import os
import warnings

import numpy as np
from sklearn.datasets import load_digits

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what TensorFlow tells of this machine is not the matter here,
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # nor what Google's library, which it imports, tells of Python
    import keras

images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8, 1).astype(np.float32) / 16

keras.utils.set_random_seed(1)
given = keras.Input((8, 8, 1), name="image")
hidden = keras.layers.Flatten()(keras.layers.Conv2D(16, 3, activation="relu")(given))
model = keras.Model(given, keras.layers.Dense(10, activation="softmax", name="probabilities")(hidden))
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(images[:1200], labels[:1200], epochs=20, verbose=0)

model.save("digits.keras")
np.savez("eval.npz", image=images[1200:], label=labels[1200:])
print("wrote digits.keras, and eval.npz with 597 examples")
