"""Names of aggregators, with where each is built."""

from wsi_mil.registry import Registry

AGGREGATORS = Registry(
    "aggregator",
    {
        "focus_mil": "wsi_mil.aggregators.focus_mil:FocusMIL",
        "mi_net": "wsi_mil.aggregators.mi_net:MiNet",
        "abmil_gated": "wsi_mil.aggregators.abmil_gated:GatedABMIL",
    },
)
