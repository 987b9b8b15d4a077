"""The optimizers: one row each. If a class has other defaults than its authors, the row uses the authors'."""

from opttune.catalog.info import OptimizerInfo
from opttune.catalog.optimizers_8bit import EIGHT_BIT_OPTIMIZERS
from opttune.catalog.optimizers_adaptive import ADAPTIVE_OPTIMIZERS
from opttune.catalog.optimizers_free import FREE_OPTIMIZERS
from opttune.catalog.optimizers_matrix import MATRIX_OPTIMIZERS
from opttune.catalog.optimizers_sign import SIGN_OPTIMIZERS
from opttune.catalog.optimizers_torch import TORCH_OPTIMIZERS

OPTIMIZERS: tuple[OptimizerInfo, ...] = (
    *TORCH_OPTIMIZERS,
    *SIGN_OPTIMIZERS,
    *MATRIX_OPTIMIZERS,
    *FREE_OPTIMIZERS,
    *ADAPTIVE_OPTIMIZERS,
    *EIGHT_BIT_OPTIMIZERS,
)
