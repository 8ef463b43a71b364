package bundle

// archiveLabel on an image in containerd names the archive that it came from.
const archiveLabel = "io.hactl.archive"

// PinnedLabel on an image in containerd keeps the kubelet from collecting it: no registry
// could bring it back.
const PinnedLabel = "io.cri-containerd.pinned=pinned"

// ArchiveLabel is the label that an image gets in containerd when it is imported: by it
// hactl knows that the image came from this very archive.
func (a Artifact) ArchiveLabel() string {
	return archiveLabel + "=" + a.SHA256[:min(16, len(a.SHA256))]
}
