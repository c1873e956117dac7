"""Other names of published encoders, as TRIDENT, STAMP, CLAM, slideflow and slide2vec write them."""

ALIASES = {
    "uni-v1": "uni",
    "uni_v1": "uni",
    "uni1": "uni",
    "uni-v2": "uni2-h",
    "uni_v2": "uni2-h",
    "uni2": "uni2-h",
    "uni2h": "uni2-h",
    "uni2_h": "uni2-h",
    "conch-v1": "conch",
    "conch_v1": "conch",
    "conch-v15": "conch-v1.5",
    "conch_v15": "conch-v1.5",
    "conch_v1_5": "conch-v1.5",
    "conch1_5": "conch-v1.5",
    "conchv1_5": "conch-v1.5",
    "conchv15": "conch-v1.5",
    "virchow-v2": "virchow2",
    "virchow_v2": "virchow2",
    "phikon_v2": "phikon-v2",
    "phikonv2": "phikon-v2",
    "phikon2": "phikon-v2",
    "histossl": "phikon",
    "hoptimus0": "h-optimus-0",
    "h_optimus_0": "h-optimus-0",
    "hoptimus1": "h-optimus-1",
    "h_optimus_1": "h-optimus-1",
    "h0_mini": "h0-mini",
    "h0mini": "h0-mini",
    "prov-gigapath": "gigapath",
    "prov_gigapath": "gigapath",
    "hibou_b": "hibou-b",
    "hibou_l": "hibou-l",
    "midnight": "midnight-12k",
    "midnight12k": "midnight-12k",
    "midnight_12k": "midnight-12k",
    "kaiko_midnight_12k": "midnight-12k",
    "open-midnight": "openmidnight",
    "genbio_pathfm": "genbio-pathfm",
    "lunit": "lunit-vits8",
    "lunit_vits8": "lunit-vits8",
    "lunit_vits16": "lunit-vits16",
    "kaiko_vits8": "kaiko-vits8",
    "kaiko_vits16": "kaiko-vits16",
    "kaiko_vitb8": "kaiko-vitb8",
    "kaiko_vitb16": "kaiko-vitb16",
    "kaiko_vitl14": "kaiko-vitl14",
    "resnet50_trunc": "resnet50-clam",
}


def canonical_name(name: str) -> str:
    """Return the name of the encoder that `name` is another name of; any other name as it is.

    >>> canonical_name("uni_v1"), canonical_name("uni"), canonical_name("timm:resnet18")
    ('uni', 'uni', 'timm:resnet18')
    """
    return ALIASES.get(name, name)
