# Written by muster. Gives the disk that was chosen by what does not change: its WWN or serial number, and its size.
# Windows numbers disks as it likes.
$wwn = 'eui.0025388b71b2f4d6'
$serial = 'S4EV''NF0M$(x) 2'
$size = [uint64]'1000204886016'

# Windows writes an NVMe's EUI with underscores and a dot, and serial numbers with blanks around them.
function Plain([string]$text) {
    return ($text -replace '^(0x|eui\.|naa\.|uuid\.)', '' -replace '[^0-9A-Za-z]', '').ToUpperInvariant()
}

function Find-ChosenDisk {
    $fit = @(foreach ($disk in Get-Disk) {
        $names = @((Plain $disk.UniqueId), (Plain $disk.SerialNumber))
        $other = Get-PhysicalDisk -ErrorAction SilentlyContinue | Where-Object { $_.DeviceId -eq [string]$disk.Number }
        foreach ($property in 'SerialNumber', 'AdapterSerialNumber', 'UniqueId') {
            if ($other -and $other.PSObject.Properties[$property]) { $names += Plain $other.$property }
        }
        foreach ($want in (Plain $wwn), (Plain $serial)) {
            if ($want -and $names -contains $want) { $disk; break }
        }
    })
    if ($fit.Count -ne 1) { throw "$($fit.Count) disks fit the one that was chosen" }
    if ($fit[0].Size -ne $size) { throw "disk $($fit[0].Number) has $($fit[0].Size) bytes, and the one that was chosen has ${size}: nothing was written" }
    return $fit[0]
}
