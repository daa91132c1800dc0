"""Read the BOP format: https://github.com/thodan/bop_toolkit/blob/master/docs/bop_datasets_format.md"""
