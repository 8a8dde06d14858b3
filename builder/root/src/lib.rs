//! What a root needs beyond its packages: users, temporary files, shells, CA bundle, module indexes, services.
