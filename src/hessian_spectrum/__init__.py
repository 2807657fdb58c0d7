"""Spectra and condition numbers of probe Hessians, right on singular matrices."""

from hessian_spectrum.condition import (
    ReleasedCondition,
    condition_number,
    effective_rank,
    extreme_eigenvalues,
    log_pseudo_determinant,
    released_condition,
    ridge_condition,
)
from hessian_spectrum.density import Estimate, SpectralDensity, spectral_density, trace_estimate
from hessian_spectrum.extreme_eigenpairs import (
    Eigenpairs,
    NotFiniteError,
    largest_eigenpairs,
    smallest_eigenpairs,
)
from hessian_spectrum.ggn import ggn_factor, ggn_spectrum
from hessian_spectrum.gradients import (
    Extremes,
    condition_gradient,
    effective_rank_gradient,
    log_condition_gradient,
    probe_extreme_eigenvalues,
    probe_extremes,
    released_condition_gradient,
    ridge_condition_gradient,
)
from hessian_spectrum.gram import (
    Gram,
    GramAccumulator,
    TriangularFactor,
    dual_gram,
    gram_eigenvalues,
    gram_matrix,
    probe_hessian,
)
from hessian_spectrum.immunizability import (
    GeneralizedSpectrum,
    factor_condition,
    generalized_spectrum,
    immunizability_limit,
    limit_from_spread,
    optimal_extractor,
)
from hessian_spectrum.io import (
    read_density,
    read_matrix,
    read_spectrum,
    write_density,
    write_spectrum,
)
from hessian_spectrum.joint_range import JointRange, joint_range
from hessian_spectrum.lanczos import Krylov, lanczos, start_vectors
from hessian_spectrum.network_check import (
    BatchDependentError,
    NotDeterministicError,
    StaleOperatorError,
)
from hessian_spectrum.network_operators import (
    layer_names,
    network_ggn,
    network_hessian,
    parameter_names,
)
from hessian_spectrum.operator_eigenpairs import (
    NotConvergedError,
    OperatorEigenpairs,
    operator_eigenpairs,
)
from hessian_spectrum.operators import SymmetricOperator, dense_operator, gram_operator
from hessian_spectrum.plot import plot_density, plot_spectrum, save_plot
from hessian_spectrum.range_factor import (
    RangeFactor,
    factor_of_gram,
    factor_of_triangle,
    range_factor,
)
from hessian_spectrum.rank import eigenvalue_tolerance, numerical_rank, relative_tolerance
from hessian_spectrum.regularizers import r_ill, r_ill_gradient, r_well, r_well_gradient
from hessian_spectrum.softmax_probe import (
    SoftmaxProbeSpectrum,
    contrasts,
    softmax_probe_operator,
    softmax_probe_spectrum,
    softmax_probe_trace,
)
from hessian_spectrum.spectrum import Spectrum
from hessian_spectrum.squared_probe import ROUND_OFF, ProbeSpectrum, probe_spectrum, resolved_only
from hessian_spectrum.tracking import ExtremeTracker

__all__ = [
    "ROUND_OFF",
    "BatchDependentError",
    "Eigenpairs",
    "Estimate",
    "ExtremeTracker",
    "Extremes",
    "GeneralizedSpectrum",
    "Gram",
    "GramAccumulator",
    "JointRange",
    "Krylov",
    "NotConvergedError",
    "NotDeterministicError",
    "NotFiniteError",
    "OperatorEigenpairs",
    "ProbeSpectrum",
    "RangeFactor",
    "ReleasedCondition",
    "SoftmaxProbeSpectrum",
    "SpectralDensity",
    "Spectrum",
    "StaleOperatorError",
    "SymmetricOperator",
    "TriangularFactor",
    "condition_gradient",
    "condition_number",
    "contrasts",
    "dense_operator",
    "dual_gram",
    "effective_rank",
    "effective_rank_gradient",
    "eigenvalue_tolerance",
    "extreme_eigenvalues",
    "factor_condition",
    "factor_of_gram",
    "factor_of_triangle",
    "generalized_spectrum",
    "ggn_factor",
    "ggn_spectrum",
    "gram_eigenvalues",
    "gram_matrix",
    "gram_operator",
    "immunizability_limit",
    "joint_range",
    "lanczos",
    "largest_eigenpairs",
    "layer_names",
    "limit_from_spread",
    "log_condition_gradient",
    "log_pseudo_determinant",
    "network_ggn",
    "network_hessian",
    "numerical_rank",
    "operator_eigenpairs",
    "optimal_extractor",
    "parameter_names",
    "plot_density",
    "plot_spectrum",
    "probe_extreme_eigenvalues",
    "probe_extremes",
    "probe_hessian",
    "probe_spectrum",
    "r_ill",
    "r_ill_gradient",
    "r_well",
    "r_well_gradient",
    "range_factor",
    "read_density",
    "read_matrix",
    "read_spectrum",
    "relative_tolerance",
    "released_condition",
    "released_condition_gradient",
    "resolved_only",
    "ridge_condition",
    "ridge_condition_gradient",
    "save_plot",
    "smallest_eigenpairs",
    "softmax_probe_operator",
    "softmax_probe_spectrum",
    "softmax_probe_trace",
    "spectral_density",
    "start_vectors",
    "trace_estimate",
    "write_density",
    "write_spectrum",
]
