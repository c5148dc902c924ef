//! What the end-to-end tests share: nodes, datastores, clients, network namespaces.
