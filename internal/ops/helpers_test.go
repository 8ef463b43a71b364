package ops

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

func TestHelperThatNeedsLibrariesIsFound(t *testing.T) {
	t.Parallel()
	program := func(kind elf.ProgType) string {
		var b bytes.Buffer
		h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1}
		copy(h.Ident[:], elf.ELFMAG)
		h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
		must(t, binary.Write(&b, binary.LittleEndian, h))
		must(t, binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(kind)}))
		path := filepath.Join(t.TempDir(), "program")
		must(t, os.WriteFile(path, b.Bytes(), 0o755))
		return path
	}
	if !needsLibraries(program(elf.PT_INTERP)) {
		t.Error("a program with an interpreter is taken for one that runs everywhere")
	}
	if needsLibraries(program(elf.PT_LOAD)) {
		t.Error("a program without an interpreter is refused")
	}
}
