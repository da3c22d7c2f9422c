package media

import (
	"errors"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	tag := Tag([32]byte{0xde, 0xad, 0xbe, 0xef, 1})
	for _, c := range []struct {
		name Name
		path string
	}{
		{Name{Kind: Bundle, Appliance: tag, Agent: "nomos-1", Sequence: 7}, "coldseal/deadbeef/to-appliance/nomos-1-0000000007.bundle"},
		{Name{Kind: Bundle, Appliance: tag, Agent: "a-0000000001", Sequence: MaxSequence}, "coldseal/deadbeef/to-appliance/a-0000000001-9999999999.bundle"},
		{Name{Kind: Bundle, Appliance: tag, Agent: "-", Sequence: 1}, "coldseal/deadbeef/to-appliance/--0000000001.bundle"},
		{Name{Kind: Response, Appliance: tag, Agent: strings.Repeat("z", 32), Sequence: 12}, "coldseal/deadbeef/to-agent/" + strings.Repeat("z", 32) + "/0000000012.response"},
		{Name{Kind: Clear, Appliance: tag, File: "issuing-ca_1.0.crl"}, "coldseal/deadbeef/clear/issuing-ca_1.0.crl"},
		{Name{Kind: Clear, Appliance: tag, File: "root.pem"}, "coldseal/deadbeef/clear/root.pem"},
		{Name{Kind: Clear, Appliance: tag, File: "checkpoint"}, "coldseal/deadbeef/clear/checkpoint"},
		{Name{Kind: Clear, Appliance: tag, File: "ab.receipt"}, "coldseal/deadbeef/clear/ab.receipt"},
		{Name{Kind: Leaves, Appliance: tag, Agent: "nomos-1"}, "coldseal/deadbeef/leaves/nomos-1.leaves"},
		{Name{Kind: Backup, Appliance: tag, Set: "0123456789abcdef", File: "part-0001"}, "coldseal/deadbeef/backup/0123456789abcdef/part-0001"},
		{Name{Kind: Backup, Appliance: tag, Set: "0123456789abcdef", File: PartName(MaxParts)}, "coldseal/deadbeef/backup/0123456789abcdef/part-9999"},
		{Name{Kind: Backup, Appliance: tag, Set: "0123456789abcdef", File: "unchecked"}, "coldseal/deadbeef/backup/0123456789abcdef/unchecked"},
		{Name{Kind: Backup, Appliance: tag, Set: "0123456789abcdef", File: "backup"}, "coldseal/deadbeef/backup/0123456789abcdef/backup"},
	} {
		path, err := c.name.Path()
		if err != nil || path != c.path {
			t.Errorf("%+v: %q, %v, want %q", c.name, path, err, c.path)
		}
		if n, err := ParseName(c.path); err != nil || n != c.name {
			t.Errorf("%s: %+v, %v", c.path, n, err)
		}
		if dir, err := c.name.Dir(); err != nil || !strings.HasPrefix(path, dir+"/") {
			t.Errorf("%s: folder %q, %v", path, dir, err)
		}
	}
}

func TestBadNames(t *testing.T) {
	for _, path := range []string{
		"", "/", "coldseal", "coldseal/deadbeef/to-appliance", "coldseal/deadbeef/clear",
		"/coldseal/deadbeef/clear/root.pem",
		"coldseal/deadbeef/../deadbeef/clear/root.pem",
		"coldseal//clear/root.pem",
		"coldseal/deadbeef/clear/root.pem/",
		"coldseal/deadbeef/clear/x/root.pem",
		"Coldseal/deadbeef/clear/root.pem",
		"coldseal/DEADBEEF/clear/root.pem",
		"coldseal/deadbee/clear/root.pem",
		"coldseal/deadbeef0/clear/root.pem",
		"coldseal/deadbeef/clear/.pem",
		"coldseal/deadbeef/clear/..pem",
		"coldseal/deadbeef/clear/-rf.pem",
		"coldseal/deadbeef/clear/root.PEM",
		"coldseal/deadbeef/clear/Root.pem",
		"coldseal/deadbeef/clear/root.exe",
		"coldseal/deadbeef/clear/checkpoint.txt",
		"coldseal/deadbeef/clear/ro\x00ot.pem",
		"coldseal/deadbeef/clear/ρίζα.pem",
		"coldseal/deadbeef/clear/" + strings.Repeat("a", 97) + ".pem",
		"coldseal/deadbeef/clear/root.pem" + partSuffix,
		"coldseal/deadbeef/to-appliance/agent-0000000000.bundle",
		"coldseal/deadbeef/to-appliance/agent-000000001.bundle",
		"coldseal/deadbeef/to-appliance/agent-00000000001.bundle",
		"coldseal/deadbeef/to-appliance/agent-+000000001.bundle",
		"coldseal/deadbeef/to-appliance/agent_0000000001.bundle",
		"coldseal/deadbeef/to-appliance/Agent-0000000001.bundle",
		"coldseal/deadbeef/to-appliance/-0000000001.bundle",
		"coldseal/deadbeef/to-appliance/0000000001.bundle",
		"coldseal/deadbeef/to-appliance/a.b-0000000001.bundle",
		"coldseal/deadbeef/to-appliance/" + strings.Repeat("a", 33) + "-0000000001.bundle",
		"coldseal/deadbeef/to-appliance/agent-0000000001.response",
		"coldseal/deadbeef/to-appliance/x/agent-0000000001.bundle",
		"coldseal/deadbeef/to-agent/0000000001.response",
		"coldseal/deadbeef/to-agent/agent/1.response",
		"coldseal/deadbeef/to-agent/agent/0000000000.response",
		"coldseal/deadbeef/to-agent/../0000000001.response",
		"coldseal/deadbeef/to-agent/agent/0000000001.bundle",
		"coldseal/deadbeef/to-agent/agent/x/0000000001.response",
		"coldseal/deadbeef/elsewhere/agent/0000000001.response",
		"coldseal/deadbeef/leaves/agent.response",
		"coldseal/deadbeef/leaves/.leaves",
		"coldseal/deadbeef/leaves/Agent.leaves",
		"coldseal/deadbeef/leaves/x/agent.leaves",
		"coldseal/deadbeef/backup/backup",
		"coldseal/deadbeef/backup/0123456789abcde/backup",
		"coldseal/deadbeef/backup/0123456789ABCDEF/backup",
		"coldseal/deadbeef/backup/0123456789abcdef/part-0000",
		"coldseal/deadbeef/backup/0123456789abcdef/part-1",
		"coldseal/deadbeef/backup/0123456789abcdef/part-00001",
		"coldseal/deadbeef/backup/0123456789abcdef/part-10000",
		"coldseal/deadbeef/backup/0123456789abcdef/x/backup",
		"coldseal/deadbeef/backup/../backup",
	} {
		if n, err := ParseName(path); !errors.Is(err, ErrName) {
			t.Errorf("%q: %+v, %v, want %v", path, n, err, ErrName)
		}
	}
	for _, n := range []Name{
		{},
		{Kind: Bundle, Agent: "a", Sequence: 1},
		{Kind: Bundle, Appliance: "deadbeef", Sequence: 1},
		{Kind: Bundle, Appliance: "deadbeef", Agent: "a"},
		{Kind: Bundle, Appliance: "deadbeef", Agent: "a", Sequence: MaxSequence + 1},
		{Kind: Bundle, Appliance: "deadbeef", Agent: "a", Sequence: 1, File: "root.pem"},
		{Kind: Response, Appliance: "deadbeef", Agent: "../a", Sequence: 1},
		{Kind: Clear, Appliance: "deadbeef"},
		{Kind: Clear, Appliance: "deadbeef", File: "root.pem", Agent: "a"},
		{Kind: Clear, Appliance: "deadbeef", File: "root.pem", Sequence: 1},
		{Kind: Leaves, Appliance: "deadbeef", Agent: "a", Sequence: 1},
		{Kind: Leaves, Appliance: "deadbeef", Agent: "a", Set: "0123456789abcdef"},
		{Kind: Backup, Appliance: "deadbeef", Set: "0123456789abcdef"},
		{Kind: Backup, Appliance: "deadbeef", File: "backup"},
		{Kind: Backup, Appliance: "deadbeef", Set: "0123456789abcdef", File: "backup", Agent: "a"},
		{Kind: 6, Appliance: "deadbeef", Agent: "a", Sequence: 1},
	} {
		if path, err := n.Path(); !errors.Is(err, ErrName) {
			t.Errorf("%+v: %q, %v, want %v", n, path, err, ErrName)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("coldseal/deadbeef/to-appliance/nomos-1-0000000007.bundle")
	f.Add("coldseal/deadbeef/to-agent/nomos-1/0000000007.response")
	f.Add("coldseal/deadbeef/leaves/nomos-1.leaves")
	f.Add("coldseal/deadbeef/backup/0123456789abcdef/part-0001")
	f.Add("coldseal/deadbeef/clear/root.pem")
	f.Add("coldseal/deadbeef/clear/checkpoint")
	f.Fuzz(func(t *testing.T, path string) {
		n, err := ParseName(path)
		if err != nil {
			if !errors.Is(err, ErrName) || n != (Name{}) {
				t.Fatalf("%q: %+v, %v", path, n, err)
			}
			return
		}
		if again, err := n.Path(); err != nil || again != path {
			t.Fatalf("%q comes back as %q, %v", path, again, err)
		}
		if len(path) > 200 || strings.Contains(path, "..") && n.Kind != Clear || strings.ContainsAny(path, "\\\x00 \n") {
			t.Fatalf("%q accepted", path)
		}
	})
}
