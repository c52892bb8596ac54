"""A dense network of three layers, written as for Keras; only the import lines are graphflow's."""

# ruff: noqa: I001
from mnist_or_digits import mnist, use_stand_in_if_needed

use_stand_in_if_needed()
(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train, x_test = x_train.reshape(-1, 784) / 255, x_test.reshape(-1, 784) / 255

# ---- the program ---- #
from graphflow.keras.models import Sequential
from graphflow.keras.layers import Dense

# 定义模型
model = Sequential(
    [
        Dense(64, activation="relu", input_shape=(784,)),
        Dense(64, activation="relu"),
        Dense(10, activation="softmax"),
    ]
)

# 编译模型
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])

# 训练模型
model.fit(x_train, y_train, epochs=10, batch_size=32)

# 验证模型
model.evaluate(x_test, y_test)
