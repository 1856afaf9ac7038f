package normalize

import (
	"strings"

	"github.com/casewire/casewire/plugin/ocsf"
)

func (s *evidenceScope) fileEvidence() {
	s.out.File = object(&s.taker, s.src.get("fileDetails"), file)
	s.out.Device = deviceRef(&s.taker, s.src)
	s.key = fileKey(s.out.File, s.src.str("mdeDeviceId"))
	s.obs.file("file", s.out.File)
	if s.out.Device != nil {
		s.obs.add(ocsf.ObservableDeviceUID, "device.uid", s.out.Device.UID)
	}
}

// algorithms of a fileHash.
var algorithms = map[string]ocsf.Fingerprint{
	"md5": {AlgorithmID: ocsf.AlgorithmMD5, Algorithm: "MD5"}, "sha1": {AlgorithmID: ocsf.AlgorithmSHA1, Algorithm: "SHA-1"},
	"sha256":   {AlgorithmID: ocsf.AlgorithmSHA256, Algorithm: "SHA-256"},
	"sha256ac": {AlgorithmID: ocsf.AlgorithmOther, Algorithm: "SHA256AC"},
}

func fingerprint(t *taker, n *node) *ocsf.Fingerprint {
	v := t.str(n, "value")
	if v == "" {
		return nil
	}
	word := t.str(n, "algorithm")
	f, ok := algorithms[fold(word)]
	if !ok {
		f = ocsf.Fingerprint{AlgorithmID: ocsf.AlgorithmOther, Algorithm: word}
		if word == "" || fold(word) == "unknown" {
			f = ocsf.Fingerprint{Algorithm: "Unknown"}
		}
	}
	f.Value = v
	return &f
}

func (s *evidenceScope) fileHash() {
	h := object(&s.taker, s.src, fingerprint)
	if h == nil {
		return
	}
	s.out.File = &ocsf.File{Name: h.Value, Type: "Unknown", Hashes: []ocsf.Fingerprint{*h}}
	s.key = strings.ToLower(h.Value)
	s.obs.hashes("file", s.out.File.Hashes)
}

func (s *evidenceScope) processEvidence() {
	t := taker{}
	if p, key := process(&t, s.src); p != nil {
		s.out.Process, s.key = p, key
		s.marks = append(s.marks, t.marks...)
	}
	s.out.Device = deviceRef(&s.taker, s.src)
	s.obs.process("process", s.out.Process)
	if s.out.Device != nil {
		s.obs.add(ocsf.ObservableDeviceUID, "device.uid", s.out.Device.UID)
	}
	if s.out.Process != nil && s.out.Process.ParentProcess != nil {
		s.obs.file("process.parent_process.file", s.out.Process.ParentProcess.File)
	}
}

func (s *evidenceScope) malwareEvidence() {
	n := s.src
	s.key = n.str("name")
	var files []ocsf.File
	for i := range n.items("files") {
		if f := file(&taker{}, n.get("files").kids[i].get("fileDetails")); f != nil {
			files = append(files, *f)
		}
	}
	if len(files) > 0 {
		s.out.File = &files[0]
	}
	for i := range files {
		s.obs.file("file", &files[i])
	}
	s.malware(s.key, n.str("category"), files)
}
