"""Published figures on MNIST-bags.

Shi et al., Loss-based attention for deep multiple instance learning, AAAI 2020.
"""

THRESHOLDS = ("0.9", "0.7", "0.5", "0.3", "0.1")
# Table 2: AUC of two classes at 50, 100, 150, 200 training bags
PUBLISHED_AUC = {
    "mean_pool": (0.794, 0.847, 0.904, 0.934),
    "max_pool": (0.805, 0.943, 0.962, 0.975),
    "mi_net": (0.904, 0.947, 0.952, 0.954),
    "abmil": (0.914, 0.963, 0.977, 0.984),
    "abmil_gated": (0.908, 0.959, 0.973, 0.979),
    "loss_attention": (0.931, 0.969, 0.978, 0.984),
}
# Table 2: accuracy of four classes at 50 training bags
PUBLISHED_ACCURACY = {
    "mean_pool": 0.582,
    "max_pool": 0.635,
    "mi_net": 0.477,
    "abmil": 0.753,
    "abmil_gated": 0.720,
    "loss_attention": 0.765,
}
# Figure 2, two classes, 50 training bags: precision and recall at THRESHOLDS (measured from the curves)
PUBLISHED_FOUND = {
    "abmil": ((0.913, 0.878, 0.851, 0.818, 0.716), (0.283, 0.396, 0.503, 0.655, 0.759)),
    "abmil_gated": ((0.914, 0.884, 0.856, 0.805, 0.646), (0.189, 0.325, 0.473, 0.665, 0.787)),
    "loss_attention": ((0.967, 0.948, 0.928, 0.897, 0.822), (0.481, 0.544, 0.583, 0.623, 0.685)),
}
# Figure 3, two classes: recall at the thresholds 0.9, 0.5 and 0.1, by lambda
PUBLISHED_LAMBDA = {
    "0": (0.300, 0.525, 0.737),
    "0.001": (0.404, 0.565, 0.713),
    "0.01": (0.420, 0.573, 0.710),
    "0.1": (0.447, 0.576, 0.697),
    "1": (0.477, 0.582, 0.686),
    "10": (0.513, 0.587, 0.665),
    "100": (0.529, 0.594, 0.658),
}
