"""Spectra and condition numbers of probe Hessians, right on singular matrices."""

from hessian_spectrum.condition import (
    ReleasedCondition,
    condition_number,
    effective_rank,
    extreme_eigenvalues,
    released_condition,
    ridge_condition,
)
from hessian_spectrum.extremes import (
    Eigenpairs,
    NotFiniteError,
    largest_eigenpairs,
    smallest_eigenpairs,
)
from hessian_spectrum.factor import RangeFactor, range_factor
from hessian_spectrum.generalized import (
    GeneralizedSpectrum,
    factor_condition,
    generalized_spectrum,
    immunizability_limit,
    limit_from_spread,
    optimal_extractor,
)
from hessian_spectrum.probe import ProbeSpectrum, probe_spectrum
from hessian_spectrum.rank import numerical_rank, relative_tolerance
from hessian_spectrum.regularizers import r_ill, r_ill_gradient, r_well, r_well_gradient

__all__ = [
    "Eigenpairs",
    "GeneralizedSpectrum",
    "NotFiniteError",
    "ProbeSpectrum",
    "RangeFactor",
    "ReleasedCondition",
    "condition_number",
    "effective_rank",
    "extreme_eigenvalues",
    "factor_condition",
    "generalized_spectrum",
    "immunizability_limit",
    "largest_eigenpairs",
    "limit_from_spread",
    "numerical_rank",
    "optimal_extractor",
    "probe_spectrum",
    "r_ill",
    "r_ill_gradient",
    "r_well",
    "r_well_gradient",
    "range_factor",
    "relative_tolerance",
    "released_condition",
    "ridge_condition",
    "smallest_eigenpairs",
]
