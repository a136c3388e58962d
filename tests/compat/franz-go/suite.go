// Package suite only names franz-go, so that its own tests can be built at a pinned version.
package suite

import _ "github.com/twmb/franz-go/pkg/kgo"
