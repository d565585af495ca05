"""An ONNX file that Keras writes of a small U-Net, channels last, and what the U-Net answers."""

import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch
from keras import layers

folder = Path(sys.argv[1])
keras.utils.set_random_seed(0)
given = keras.Input((64, 64, 3), batch_size=1)
skips, now = [], given
for width in (16, 32, 64):
    now = layers.Conv2D(width, 3, padding="same")(now)
    now = layers.Activation("relu")(layers.BatchNormalization()(now))
    skips.append(now)
    now = layers.MaxPooling2D()(now)
for width, skip in zip((64, 32, 16), skips[::-1], strict=True):
    now = layers.Concatenate()([layers.UpSampling2D()(now), skip])
    now = layers.Conv2D(width, 3, padding="same", activation="relu")(now)
network = keras.Model(given, layers.Conv2D(3, 1, activation="softmax")(now))
pixels = torch.randn(1, 3, 64, 64)
with torch.no_grad():
    answer = network(pixels.permute(0, 2, 3, 1), training=False).permute(0, 3, 1, 2)[:, 1:]
network.export(folder / "keras.onnx", format="onnx", verbose=False)
torch.save({"pixels": pixels, "answer": answer.contiguous()}, folder / "keras.answer.pth")
