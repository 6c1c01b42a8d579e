"""For tests: worlds compared, and the contracts that every save format and entity store keeps, your own too."""

from pecs_np.testing.comparison import assert_worlds_equal
from pecs_np.testing.plugin_contract import PluginContract
from pecs_np.testing.store_contract import EntityStoreContract

__all__ = ["EntityStoreContract", "PluginContract", "assert_worlds_equal"]
