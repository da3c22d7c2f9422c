package issue

import "testing"

func BenchmarkTBS(b *testing.B) {
	keys := testKeys(b)
	h := newHierarchy(b, keys, "P-256")
	for _, i := range []int{0, 1, 2, 4} {
		s := samples()[i]
		b.Run(s.profile.Name, func(b *testing.B) {
			shape, err := NewShape(h.issuing, &s.profile, 1)
			if err != nil {
				b.Fatal(err)
			}
			c := s.of(spkiOf(b, keys["subject-P-256"]), 1)
			b.ReportAllocs()
			for b.Loop() {
				if _, refusal, err := shape.TBS(c); refusal != nil || err != nil {
					b.Fatal(refusal, err)
				}
			}
		})
	}
}

func BenchmarkCRL100k(b *testing.B) {
	h := newHierarchy(b, testKeys(b), "P-256")
	b.ReportAllocs()
	for b.Loop() {
		tbs := manyEntries(b, h.issuing, 100_000, 100_000)
		b.ReportMetric(float64(len(tbs)), "bytes")
	}
}
