"""The whole road on one machine: manifests in, a published, installed, started and verified release out."""
