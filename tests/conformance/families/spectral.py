"""Fourier transforms and complex numbers: what is made of them in real numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.conformance.case import Array, Case, combinations, ramp

PARTS = ("Real", "Imag", "ComplexAbs", "Angle")


def cases() -> Iterator[Case]:
    """Every transform, of lengths that are cut and padded; spectrograms; arithmetic of complex numbers."""
    for part in PARTS:
        signals = {
            "20": {"x": ramp("float32", 3, 20)},
            "3-D": {"x": ramp("float32", 2, 3, 8)},
            "0s": {"x": zeros(2, 8)},
        }
        for length in (16, 8, 20, 7, 1):
            some = signals if length == 8 else {"20": signals["20"]}
            how: dict[str, Any] = {"made_by": transformed, "beside": (part,), "part": [part], "length": [length]}
            yield from combinations("RFFT", some, **how)
        image = {"6x8": {"x": ramp("float32", 2, 6, 8)}}
        yield from combinations("RFFT2D", image, made_by=transformed_image, beside=(part,), part=[part])
        for op in ("FFT", "IFFT", "FFT2D", "FFT3D"):
            both = {"both parts": {"x": ramp("float32", 2, 3, 4, 8), "y": ramp("float32", 2, 3, 4, 8)[::-1].copy()}}
            yield from combinations([op], both, made_by=of_both, beside=("Complex", part), part=[part])
    halves = {"9": {"x": ramp("float32", 3, 9), "y": ramp("float32", 3, 9)[::-1].copy()}}
    yield from combinations("IRFFT", halves, made_by=back, length=[16, 8, 17])
    waves = {"waves": {"x": ramp("float32", 2, 100)}, "short": {"x": ramp("float32", 2, 10)}}
    frames: dict[str, Any] = {"length": [32, 30], "step": [16, 10], "pad_end": [False, True]}
    yield from combinations("RFFT", waves, made_by=spectrogram, beside=("ComplexAbs",), **frames)
    yield from combinations("IRFFT", {"waves": waves["waves"]}, made_by=there_and_back, beside=("RFFT",))
    yield from combinations("RFFT", {"waves": waves["waves"]}, made_by=cepstrum, beside=("ComplexAbs",))
    yield from combinations("RFFT", {"waves": waves["waves"]}, made_by=cosines)
    arithmetic = {"both": {"x": ramp("float32", 3, 4), "y": ramp("float32", 3, 4)[::-1].copy()}}
    for op in ("AddV2", "Mul", "RealDiv", "Sub"):
        yield from combinations([op], arithmetic, made_by=of_complex, beside=("Complex", "Real", "Imag"))
    yield from combinations("Conj", arithmetic, made_by=conjugate, beside=("Complex", "Imag"))


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def read(part: str, z: Any) -> Any:
    import tensorflow as tf

    return getattr(tf.raw_ops, part)(**{"x" if part == "ComplexAbs" else "input": z})


def transformed(x: Any, part: str, length: int) -> Any:
    import tensorflow as tf

    return read(part, tf.raw_ops.RFFT(input=x, fft_length=[length]))


def transformed_image(x: Any, part: str) -> Any:
    import tensorflow as tf

    return read(part, tf.raw_ops.RFFT2D(input=x, fft_length=[6, 8]))


def of_both(op: str, x: Any, y: Any, part: str) -> Any:
    import tensorflow as tf

    return read(part, getattr(tf.raw_ops, op)(input=tf.complex(x, y)))


def back(x: Any, y: Any, length: int) -> Any:
    import tensorflow as tf

    return tf.raw_ops.IRFFT(input=tf.complex(x, y), fft_length=[length])


def spectrogram(x: Any, length: int, step: int, pad_end: bool) -> Any:
    import tensorflow as tf

    return tf.abs(tf.signal.stft(x, length, step, pad_end=pad_end))


def there_and_back(x: Any) -> Any:
    import tensorflow as tf

    return tf.signal.inverse_stft(tf.signal.stft(x, 32, 16), 32, 16)


def cepstrum(x: Any) -> Any:
    import tensorflow as tf

    bands = tf.signal.linear_to_mel_weight_matrix(10, 17, 16000, 80.0, 7600.0)
    energies = tf.matmul(tf.abs(tf.signal.stft(x, 32, 16)), bands)
    return tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(energies + 1e-3))


def cosines(x: Any) -> Any:
    import tensorflow as tf

    return tf.signal.dct(x[:, :16], type=2, norm="ortho"), tf.signal.dct(x[:, :16], type=3)


def of_complex(op: str, x: Any, y: Any) -> Any:
    import tensorflow as tf

    z = getattr(tf.raw_ops, op)(x=tf.complex(x, y), y=tf.complex(y, x + 1))
    return tf.math.real(z), tf.math.imag(z)


def conjugate(x: Any, y: Any) -> Any:
    import tensorflow as tf

    return tf.math.imag(tf.math.conj(tf.complex(x, y)))
