package bundle

// CheckCMS is checkCMS.
var CheckCMS = checkCMS
