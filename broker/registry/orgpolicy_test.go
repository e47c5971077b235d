package registry

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/policy"
)

// The policy of an organisation is kept, told of, and goes with the organisation.
func TestOrganisationPolicy(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	st := memstore.New()
	t.Cleanup(func() { _ = st.Close() })
	r, err := Open(st, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	org, _ := policy.ParseOrgID("acme01")
	other, _ := policy.ParseOrgID("other1")
	for _, id := range []policy.OrgID{org, other} {
		if _, err := r.CreateOrganisation(ctx, id, ""); err != nil {
			t.Fatal(err)
		}
	}
	var told []Change
	defer r.Watch(func(ch Change) { told = append(told, ch) })()

	p := OrganisationPolicy{Revision: "abc", Who: "admin@acme01", Files: []PolicyFile{{Path: "a.rego", Text: "package a\n# é"}}}
	made, err := r.SetOrganisationPolicy(ctx, org, p)
	if err != nil || made.Updated.IsZero() {
		t.Fatal(made, err)
	}
	if found, err := r.OrganisationPolicy(ctx, org); err != nil || !slices.Equal(found.Files, p.Files) || found.Who != p.Who {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := r.OrganisationPolicy(ctx, other); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("another organisation: %v", err)
	}
	if err := r.DeleteOrganisationPolicy(ctx, other); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("another organisation: %v", err)
	}
	if len(told) != 1 || told[0].Kind != OrganisationPolicyChanged || told[0].Org != org || told[0].Incarnation == 0 {
		t.Errorf("told %+v", told)
	}

	if err := r.DeleteOrganisation(ctx, org); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateOrganisation(ctx, org, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.OrganisationPolicy(ctx, org); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("the namesake has %v", err)
	}
	if _, err := r.SetOrganisationPolicy(ctx, org, p); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteOrganisationPolicy(ctx, org); err != nil {
		t.Fatal(err)
	}
	if _, err := r.OrganisationPolicy(ctx, org); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("deleted: %v", err)
	}
}

func TestOrganisationPolicyIsBounded(t *testing.T) {
	t.Parallel()
	file := PolicyFile{Path: "a.rego", Text: "x"}
	for name, c := range map[string]struct {
		files []PolicyFile
		want  policy.Kind
	}{
		"none":      {nil, policy.KindInvalid},
		"too many":  {slices.Repeat([]PolicyFile{file}, 65), policy.KindInvalid},
		"twice":     {[]PolicyFile{file, file}, policy.KindInvalid},
		"no path":   {[]PolicyFile{{Text: "x"}}, policy.KindInvalid},
		"long path": {[]PolicyFile{{Path: strings.Repeat("x", 513), Text: "x"}}, policy.KindInvalid},
		"not UTF-8": {[]PolicyFile{{Path: "a", Text: "\xff"}}, policy.KindInvalid},
		"too large": {[]PolicyFile{{Path: "a", Text: strings.Repeat("x", 256<<10)}, {Path: "b", Text: "x"}}, policy.KindTooLarge},
	} {
		p := OrganisationPolicy{Files: c.files}
		if err := p.check(); policy.KindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
