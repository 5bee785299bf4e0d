"""The networks whose bytes are counted: this package's own, none of which is run here."""

from collections.abc import Callable

from adamwprune.base.kinds import Images, Tokens
from adamwprune.models import Model, gpt2, gpt2_medium, lenet5, resnet18, resnet50

WIDTH = {"MODEL_WIDTH": 1.0}
CIFAR10 = Images(channels=3, size=32, classes=10)
IMAGENET = Images(channels=3, size=224, classes=1000)
TEXT = Tokens(vocabulary=50_257, block=1024)

NETWORKS: dict[str, Callable[[], Model]] = {
    "lenet5": lambda: Model(lenet5.LeNet5(), Images(channels=1, size=32, classes=10)),
    "resnet18": lambda: resnet18.build(WIDTH, CIFAR10),
    "resnet50": lambda: resnet50.build(WIDTH, IMAGENET),
    "gpt2": lambda: gpt2.build(WIDTH, TEXT),
    "gpt2-medium": lambda: gpt2_medium.build(WIDTH, TEXT),
}
TOLD = {
    "lenet5": "for MNIST",
    "resnet18": "for 32x32 images, ten classes",
    "resnet50": "for 224x224 images, 1,000 classes",
    "gpt2": "the head is the token embedding, which is not pruned",
    "gpt2-medium": "as above",
}
EVERY_METHOD = ("lenet5", "resnet18", "gpt2")  # whose bytes are shown under every method
