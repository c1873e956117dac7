"""Published accuracies of the classic benchmarks: mean and standard deviation by method and data set."""

# Shi et al., Loss-based attention for deep multiple instance learning, AAAI 2020, Table 1
PUBLISHED = {
    "mi_net": {
        "musk1": (0.889, 0.088),
        "musk2": (0.858, 0.110),
        "fox": (0.613, 0.078),
        "tiger": (0.824, 0.076),
    },
    "mi_net_embedding": {
        "musk1": (0.887, 0.091),
        "musk2": (0.859, 0.102),
        "fox": (0.622, 0.084),
        "tiger": (0.830, 0.072),
    },
    "mi_net_ds": {
        "musk1": (0.894, 0.093),
        "musk2": (0.874, 0.097),
        "fox": (0.630, 0.080),
        "tiger": (0.845, 0.087),
    },
    "mi_net_rc": {
        "musk1": (0.898, 0.097),
        "musk2": (0.873, 0.098),
        "fox": (0.619, 0.104),
        "tiger": (0.836, 0.083),
    },
    "abmil": {
        "musk1": (0.892, 0.090),
        "musk2": (0.858, 0.106),
        "fox": (0.615, 0.096),
        "tiger": (0.839, 0.054),
    },
    "abmil_gated": {
        "musk1": (0.900, 0.088),
        "musk2": (0.863, 0.094),
        "fox": (0.603, 0.068),
        "tiger": (0.845, 0.046),
    },
    "loss_attention": {
        "musk1": (0.917, 0.066),
        "musk2": (0.911, 0.063),
        "fox": (0.712, 0.074),
        "tiger": (0.897, 0.065),
    },
}
