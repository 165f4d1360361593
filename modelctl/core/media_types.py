"""Media types and annotation keys: the only place where they are spelled.

Sources: OCI image-spec v1.1 (media-types.md, annotations.md); CNCF ModelPack model-spec (specs-go/v1); in-toto
attestation spec v1 (envelope.md), whose predicate type stands in an annotation as cosign and BuildKit write it.
"""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
MODELPACK_CONFIG = "application/vnd.cncf.model.config.v1+json"

REF_NAME = "org.opencontainers.image.ref.name"
TITLE = "org.opencontainers.image.title"
LICENSES = "org.opencontainers.image.licenses"
PREDICATE_TYPE = "in-toto.io/predicate-type"
FILEPATH = "org.cncf.model.filepath"

PREFIX = "io.modelctl."
KIND = "io.modelctl.kind"
FILE_SIZE = "io.modelctl.file.size"
FILE_OFFSET = "io.modelctl.file.offset"
FILE_CRC32 = "io.modelctl.file.crc32"
FILE_CRC64 = "io.modelctl.file.crc64"

TABLE_KIND = "table"
