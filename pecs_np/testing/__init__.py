"""For tests: worlds compared, and the contract that every save format keeps, your own too."""

from pecs_np.testing.comparison import assert_worlds_equal
from pecs_np.testing.plugin_contract import PluginContract

__all__ = ["PluginContract", "assert_worlds_equal"]
