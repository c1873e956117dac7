"""What this machine has for networks: its CPU's instructions, and OpenVINO."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")
BF16 = frozenset(("avx512_bf16", "amx_bf16", "bf16"))
"""Instructions for products of bfloat16 on x86 (AVX-512, AMX) and Arm, as Linux names them."""


def cpu_flags() -> frozenset[str]:
    """Return the instruction sets of this CPU, as Linux names them; empty on other systems."""
    return frozenset(_stated("flags", "Features").split())


def cpu_model() -> str:
    """Return the name of this CPU; the name of its architecture where the system states no more."""
    return _stated("model name") or platform.processor() or platform.machine()


def cpu_multiplies_bf16() -> bool:
    """Return whether this CPU has instructions for products of bfloat16; without them float32 is faster."""
    return bool(BF16 & cpu_flags())


def openvino_version() -> str | None:
    """Return the version of OpenVINO; None if it is not installed."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return None


def _stated(*keys: str) -> str:
    """Return the value of the first line of /proc/cpuinfo that has one of `keys`; "" without such a line."""
    lines = CPU_INFO.read_text(errors="replace").splitlines() if CPU_INFO.exists() else []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""
