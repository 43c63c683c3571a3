package rule

// Usages lists how each function is called.
func Usages() []string {
	var usages []string
	for _, fn := range functions {
		usages = append(usages, fn.usage)
	}
	return usages
}
