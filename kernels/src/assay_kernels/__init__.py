"""Native CPU kernels for Assay, one extension module per instruction set. See `assay_kernels.plugin`."""
