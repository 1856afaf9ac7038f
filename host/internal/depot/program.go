package depot

import (
	"bytes"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
)

// MaxSize is the largest connector in bytes.
const MaxSize = 512 << 20

// Here is the platform that this program runs on, such as linux/amd64.
func Here() string { return runtime.GOOS + "/" + runtime.GOARCH }

var (
	elfArch = map[elf.Machine]string{
		elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm", elf.EM_RISCV: "riscv64",
		elf.EM_S390: "s390x", elf.EM_PPC64: "ppc64le", elf.EM_LOONGARCH: "loong64",
	}
	machoArch = map[macho.Cpu]string{macho.CpuAmd64: "amd64", macho.CpuArm64: "arm64"}
	peArch    = map[uint16]string{pe.IMAGE_FILE_MACHINE_AMD64: "amd64", pe.IMAGE_FILE_MACHINE_ARM64: "arm64"}
)

// CheckProgram says whether the file at path looks like something that can be executed on a platform: a script with an
// interpreter, or a binary of its format and processor. It says what the file is instead.
func CheckProgram(path, platform string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 512)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	head = head[:n]
	wantOS, wantArch, _ := strings.Cut(platform, "/")
	binary := func(what, arch string, systems bool) error {
		if !systems || arch != "" && arch != wantArch {
			return fmt.Errorf("it is a program for %s%s, not for %s", what, arch, platform)
		}
		return nil
	}
	unix := wantOS != "darwin" && wantOS != "windows"
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		if wantOS == "windows" {
			return errors.New("it is a script, which Windows does not execute")
		}
		return nil
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		b, err := elf.NewFile(f)
		if err != nil {
			return fmt.Errorf("it is damaged: %w", err)
		}
		return binary("Linux or a BSD on ", elfArch[b.Machine], unix)
	case bytes.HasPrefix(head, []byte("MZ")):
		b, err := pe.NewFile(f)
		if err != nil {
			return fmt.Errorf("it is damaged: %w", err)
		}
		return binary("Windows on ", peArch[b.Machine], wantOS == "windows")
	case bytes.HasPrefix(head, []byte{0xca, 0xfe, 0xba, 0xbe}): // one for several processors
		return binary("macOS", "", wantOS == "darwin")
	case bytes.HasPrefix(head, []byte{0xcf, 0xfa, 0xed, 0xfe}):
		b, err := macho.NewFile(f)
		if err != nil {
			return fmt.Errorf("it is damaged: %w", err)
		}
		return binary("macOS on ", machoArch[b.Cpu], wantOS == "darwin")
	}
	return fmt.Errorf("it is no program: %s", describeBytes(head))
}

// describeBytes says what people put in a program's place.
func describeBytes(head []byte) string {
	low := bytes.ToLower(bytes.TrimSpace(head))
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")), bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("\xfd7zXZ")),
		bytes.HasPrefix(head, []byte("BZh")), bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return "it is an archive; unpack it and install the program in it"
	case bytes.HasPrefix(low, []byte("<!doctype html")), bytes.HasPrefix(low, []byte("<html")):
		return "it is a web page; is the address that of the file itself?"
	}
	return fmt.Sprintf("it begins with %q", head[:min(len(head), 16)])
}
