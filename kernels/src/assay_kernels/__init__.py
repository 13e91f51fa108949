"""Native CPU kernels for Assay: one extension module per instruction set, offered by `assay_kernels.plugin`."""
