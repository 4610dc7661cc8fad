"""Times what a Keras tutorial does: `fit` of the example model with batch 32 and the TensorBoard callback.

Usage: keras_fit.py LOG_DIR. Prints {"seconds": ..., "val_accuracy": ...}; the import of Keras is not in the seconds.
"""

import json
import sys
import time

import keras

from trainer.training.data import idx_files

started = time.perf_counter()
(train_images, y_train), (test_images, y_test) = idx_files.load("")
x_train, x_test = train_images / 255.0, test_images / 255.0
model = keras.Sequential(
    [
        keras.Input((28, 28)),
        keras.layers.Flatten(),
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(
    x=x_train,
    y=y_train,
    epochs=5,
    validation_data=(x_test, y_test),
    callbacks=[keras.callbacks.TensorBoard(log_dir=sys.argv[1], histogram_freq=1)],
    verbose=0,
)
print(json.dumps({"seconds": time.perf_counter() - started, "val_accuracy": history.history["val_accuracy"][-1]}))
