"""Results that others published on CIFAKE, which ours are compared with. All are on the 20,000 test images."""

# Accuracy in percent, from the pages named; MACs from the architectures (None where not given there).
ACCURACY = (
    {"network": "ViT-S/16, ImageNet", "accuracy": 98.77, "macs": 4.25e9, "source": "leyixu26/cifake-detection"},
    {"network": "EfficientNetV2-B0, ImageNet", "accuracy": 98.52, "macs": 0.73e9, "source": "opallep/CIFAKE-DETECTION"},
    {"network": "small CNN, 288 k", "accuracy": 97.66, "macs": 38.9e6, "source": "leyixu26/cifake-detection"},
    {"network": "VGG16, frozen", "accuracy": 95.63, "macs": 15.5e9, "source": "rengoku200"},
)

# Mean accuracy in percent over three paired seeds: fmckie/220231053-251104382-cifake-robustness.
ROBUSTNESS = {
    "CNN 544 k": {"clean": 94.42, "noise 0.1": 80.29, "JPEG 40": 88.26, "blur 0.6": 69.26, "blur 1": 63.82},
    "CNN 544 k, noise and JPEG in training": {
        "clean": 94.91, "noise 0.1": 93.38, "JPEG 40": 92.82, "blur 0.6": 83.67, "blur 1": 74.0,
    },
    "ResNet-18, ImageNet": {"clean": 96.93, "noise 0.1": 68.93, "JPEG 40": 88.62, "blur 0.6": 65.66, "blur 1": 58.18},
    "ResNet-18, ImageNet, noise and JPEG in training": {
        "clean": 97.32, "noise 0.1": 96.15, "JPEG 40": 95.78, "blur 0.6": 87.38, "blur 1": 68.4,
    },
}  # fmt: skip
