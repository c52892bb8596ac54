"""Handwritten digits, from loading to testing, written as for Keras; only the import lines differ.

The rows have 784 numbers while the model declares (28, 28): graphflow reshapes them, and warns.
"""

# ruff: noqa: I001
from mnist_or_digits import use_stand_in_if_needed

use_stand_in_if_needed()

# ---- the program ---- #
from graphflow.keras.datasets import mnist
from graphflow.keras.models import Sequential
from graphflow.keras.layers import Dense, Flatten
from graphflow.keras.utils import to_categorical

# 加载数据
(x_train, y_train), (x_test, y_test) = mnist.load_data()

# 预处理数据
x_train = x_train.reshape(60000, 784).astype("float32") / 255
x_test = x_test.reshape(10000, 784).astype("float32") / 255
y_train = to_categorical(y_train)
y_test = to_categorical(y_test)

# 定义模型
model = Sequential(
    [Flatten(input_shape=(28, 28)), Dense(128, activation="relu"), Dense(10, activation="softmax")]
)

# 编译模型
model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])

# 训练模型
model.fit(x_train, y_train, epochs=10, batch_size=32)

# 验证模型
model.evaluate(x_test, y_test)
