"""Numerical checks: what a library computes against a float64 reference made by numpy, by relative error.

Every check makes fresh random inputs, rounds them to the type under test *first*, and computes the reference from the
rounded inputs: the tolerance is then for the computation alone. The same code runs on the processor and on a GPU.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lading_server.selftest.report import CheckFailedError, Evidence

# Largest ‖out - reference‖ / ‖reference‖. A correct library is 3 to 30 times better; a wrong kernel is near 1.
FP32 = 1e-5  # 24 bits of mantissa: 6e-8 a rounding
FP32_TRANSFORMED = 1e-4  # algorithms that transform (Winograd convolution) or iterate (SVD) round more often
TF32 = 2e-3  # inputs cut to 11 bits: 5e-4 a rounding
FP16 = 5e-3  # 11 bits: 5e-4 a rounding, and sums may be split in half precision
BF16 = 2e-2  # 8 bits: 4e-3 a rounding

SAMPLES = 1_000_000
SIGMAS = 6.0  # a correct generator is outside of six standard deviations once in 500 million runs


def relative_error(out: Any, reference: NDArray[Any]) -> float:
    """The distance of a result from its reference, as a share of the reference's length."""
    value = np.asarray(out, dtype=reference.dtype)
    return float(np.linalg.norm(value - reference) / np.linalg.norm(reference))


def within(errors: dict[str, float], tolerance: float, **facts: Any) -> Evidence:
    """Pass when every error is at most the tolerance; an error that is no number fails.

    Raises:
        CheckFailedError: Naming the errors beyond it.
    """
    evidence = {"relative_errors": errors, "tolerance": tolerance, **facts}
    beyond = {name: error for name, error in errors.items() if not error <= tolerance}
    if beyond:
        worst = ", ".join(f"{name} {error:.3g}" for name, error in beyond.items())
        raise CheckFailedError(f"relative error beyond {tolerance:g}: {worst}", evidence)
    return evidence


def uniform_statistics(sample: NDArray[np.float64]) -> Evidence:
    """Check a sample that should be uniform on (0, 1]: mean, variance, and that neighbours are uncorrelated.

    Raises:
        CheckFailedError: It is not.
    """
    count = len(sample)
    found = {
        "mean": float(sample.mean()),
        "variance": float(sample.var()),
        "lag_1_correlation": float(np.corrcoef(sample[:-1], sample[1:])[0, 1]),
    }
    bounds = {
        "mean": (0.5, SIGMAS * (1 / 12 / count) ** 0.5),
        "variance": (1 / 12, SIGMAS * (1 / 180 / count) ** 0.5),
        "lag_1_correlation": (0.0, SIGMAS * (1 / count) ** 0.5),
    }
    evidence = {"samples": count, **found}
    for name, (expected, margin) in bounds.items():
        if not abs(found[name] - expected) <= margin:
            message = f"{name} of {count} uniform numbers is {found[name]:.6g}, expected {expected:.6g} ± {margin:.2g}"
            raise CheckFailedError(message, evidence)
    if not (sample.min() >= 0.0 and sample.max() <= 1.0):
        raise CheckFailedError(f"uniform numbers outside of [0, 1]: {sample.min()} to {sample.max()}", evidence)
    return evidence


def numpy_matmul(random: np.random.Generator) -> Evidence:
    """Numpy's single precision product (its BLAS) against numpy's own loops in double precision."""
    left = random.standard_normal((96, 160), dtype=np.float32)
    right = random.standard_normal((160, 64), dtype=np.float32)
    # Two operands and no optimisation: einsum's own loops, no BLAS.
    reference = np.einsum("ij,jk->ik", left.astype(np.float64), right.astype(np.float64), optimize=False)
    return within({"product": relative_error(left @ right, reference)}, FP32)


class TorchNumerics:
    """Torch's operations on one device, checked.

    Args:
        torch: The torch module.
        device: Such as ``cpu`` or ``cuda:0``.
        random: Makes the inputs.
    """

    def __init__(self, torch: Any, device: str, random: np.random.Generator) -> None:
        self._torch = torch
        self._device = device
        self._random = random

    def _make(self, *shape: int, dtype: Any = None) -> tuple[Any, NDArray[np.float64]]:
        values = self._torch.from_numpy(self._random.standard_normal(shape, dtype=np.float32))
        rounded = values.to(dtype or self._torch.float32)
        return rounded.to(self._device), self._host(rounded)

    def _host(self, tensor: Any) -> NDArray[np.float64]:
        made: NDArray[np.float64] = tensor.detach().to("cpu", self._torch.float64).numpy()
        return made

    def matmul(self, dtype_name: str, tolerance: float) -> Evidence:
        """A matrix product and a batched one (cuBLAS on a GPU)."""
        dtype = getattr(self._torch, dtype_name)
        left, left_reference = self._make(2, 192, 512, dtype=dtype)
        right, right_reference = self._make(2, 512, 128, dtype=dtype)
        errors = {
            "product": relative_error(self._host(left[0] @ right[0]), left_reference[0] @ right_reference[0]),
            "batched": relative_error(self._host(self._torch.bmm(left, right)), left_reference @ right_reference),
        }
        return within(errors, tolerance, dtype=dtype_name, device=self._device)

    def convolution(self) -> Evidence:
        """A convolution forwards and backwards (cuDNN on a GPU)."""
        image, image_reference = self._make(4, 8, 24, 24)
        weight, weight_reference = self._make(16, 8, 3, 3)
        slope, slope_reference = self._make(4, 16, 24, 24)
        image.requires_grad_()
        weight.requires_grad_()
        out = self._torch.nn.functional.conv2d(image, weight, padding=1)
        out.backward(slope)
        expected = convolution_reference(image_reference, weight_reference, slope_reference)
        found = (out, image.grad, weight.grad)
        names = ("forward", "input gradient", "weight gradient")
        errors = {
            name: relative_error(self._host(value), reference)
            for name, value, reference in zip(names, found, expected, strict=True)
        }
        return within(errors, FP32_TRANSFORMED, device=self._device)

    def fourier(self) -> Evidence:
        """Fourier transforms, there and back (cuFFT on a GPU); sizes with and without a power of two."""
        errors = {}
        for side in (128, 105):
            values, reference = self._make(side, side)
            spectrum = self._torch.fft.fft2(values)
            expected = np.fft.fft2(reference)
            host = spectrum.to("cpu", self._torch.complex128).numpy()
            errors[f"forward {side}"] = relative_error(host, expected)
            errors[f"back {side}"] = relative_error(self._host(self._torch.fft.ifft2(spectrum).real), reference)
        return within(errors, FP32, device=self._device)

    def sparse(self) -> Evidence:
        """A sparse matrix times a dense one (cuSPARSE on a GPU)."""
        dense, reference = self._make(256, 200)
        kept = self._random.random((256, 200)) < 0.05  # noqa: PLR2004 (the share of entries that are not zero)
        mask = self._torch.from_numpy(kept).to(self._device)
        right, right_reference = self._make(200, 32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls its CSR support a beta, once per process
            out = (dense * mask).to_sparse_csr() @ right
        error = relative_error(self._host(out), (reference * kept) @ right_reference)
        return within({"product": error}, FP32, device=self._device, nonzero=int(kept.sum()))

    def linear_algebra(self) -> Evidence:
        """LU, QR and SVD (cuSOLVER on a GPU), each by putting the matrix together again."""
        linalg = self._torch.linalg
        matrix, reference = self._make(128, 128)
        pivots, lower, upper = (self._host(part) for part in linalg.lu(matrix))
        orthogonal, triangle = (self._host(part) for part in linalg.qr(matrix))
        left, singular, right = (self._host(part) for part in linalg.svd(matrix))
        identity = np.eye(128)
        errors = {
            "LU": relative_error(pivots @ lower @ upper, reference),
            "QR": relative_error(orthogonal @ triangle, reference),
            "QR orthogonality": relative_error(orthogonal.T @ orthogonal, identity),
            "SVD": relative_error(left @ np.diag(singular) @ right, reference),
            "singular values": relative_error(singular, np.linalg.svd(reference, compute_uv=False)),
        }
        return within(errors, FP32_TRANSFORMED, device=self._device)


def convolution_reference(
    image: NDArray[np.float64], weight: NDArray[np.float64], slope: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """A 3x3 convolution with padding 1 by its definition, and its two gradients.

    Args:
        image: batch, channels, height, width.
        weight: outputs, channels, 3, 3.
        slope: The gradient of the output.

    Returns:
        The output, the gradient of the image, the gradient of the weight.
    """
    patches = _patches(image)
    out = np.einsum("nchwij,ocij->nohw", patches, weight, optimize=True)
    image_slope = np.einsum("nohwij,ocij->nchw", _patches(slope), weight[:, :, ::-1, ::-1], optimize=True)
    weight_slope = np.einsum("nchwij,nohw->ocij", patches, slope, optimize=True)
    return out, image_slope, weight_slope


def _patches(values: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
