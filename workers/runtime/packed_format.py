"""Names of the `packed` format, and what keeps a loader that does not know it from loading it as something else.

transformers leaves out what it does not know and draws random weights. Two things are in its way. `config.json` names
weights that cannot be loaded, which is refused in any case, with that name as the reason. And each packed module has a
`weight` of a shape that no model has, without any bytes: it stops loaders that do not read that field, and those of
what `save_pretrained` writes, which drops it.
"""

QUANT_METHOD = "tightfit"
SCHEMA_VERSION = 2
"""of the `quantization_config`; 1 had nothing in the way of other loaders"""
SITES_VERSION = 3
"""of one that has levels at parameters which are no plain layer's weight"""
EXPERTS_VERSION = 4
"""of one whose experts of a stack have levels of their own"""
CACHE_VERSION = 5
"""of one whose attention remembers keys and values in fewer bits"""
WEIGHTS_FIELD = "transformers_weights"
"""of config.json: the file of the weights, where it has another name than usual"""
NO_WEIGHTS = "packed by tightfit, so run `import tightfit.hf` before loading it; README.md says how to get it"
"""what that field says, and transformers repeats in its error"""
NO_SHAPE = (0,)
"""of the `weight` of a packed module"""
